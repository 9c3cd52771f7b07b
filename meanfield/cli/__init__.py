"""The command line: it parses, calls and prints. The first command to try is `meanfield audit`."""
