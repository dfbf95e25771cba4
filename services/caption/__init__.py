"""The service caption: what a picture shows, in words."""
