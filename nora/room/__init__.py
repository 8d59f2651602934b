"""Room on the disk: what nobody needs any more, and what a cache may keep."""
