"""`python -m gateway.doors.grpc.write` renews darkroom.binpb (the ledger of numbers) and darkroom.proto (to read, and
to make clients from). It refuses what would break clients that were made from the ledger as it is.
"""

from __future__ import annotations

import sys
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.struct_pb2 import DESCRIPTOR as STRUCT_FILE

from gateway.doors.grpc.compat import breaks
from gateway.doors.grpc.schema import LEDGER, Schema, committed, ours
from gateway.doors.grpc.text import text

PROTO = Path(__file__).with_name("darkroom.proto")


def main() -> int:
    before = committed()
    now = Schema(ours(), before)
    if before is not None and (found := breaks(before, now.file)):
        sys.stderr.write("".join(f"{sentence}\n" for sentence in found))
        sys.stderr.write("Clients would break: give what changed another name. Nothing was written.\n")
        return 1
    files = FileDescriptorSet()
    files.file.add().ParseFromString(STRUCT_FILE.serialized_pb)
    files.file.append(now.file)
    LEDGER.write_bytes(files.SerializeToString(deterministic=True))
    PROTO.write_text(text(now))
    return 0


if __name__ == "__main__":
    sys.exit(main())
