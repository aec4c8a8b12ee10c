"""What tests of `shardflow.dvc` share. It cannot lie in tests/dvc: a package of that name would hide DVC itself."""
