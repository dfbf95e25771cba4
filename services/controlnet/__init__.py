"""Control: edges and poses read from pictures, and the service that lets them steer a generation."""
