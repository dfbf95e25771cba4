#!/usr/bin/env python3
"""Makes the bucket, as MinIO's client does."""

import urllib.request

urllib.request.urlopen(urllib.request.Request("http://minio:9000/darkroom", method="PUT"), timeout=10).close()
