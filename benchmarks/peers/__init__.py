"""One layer of EGNN and of ClofNet as other libraries run it, beside clof_ext: ``python -m benchmarks.peers``."""
