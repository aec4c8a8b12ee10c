"""`python -m shardflow.cli`: the same as `shardflow`, where that is not on the PATH."""

from shardflow.cli import main

if __name__ == "__main__":
    main()
