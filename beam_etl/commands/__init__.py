"""The commands of the command line besides loading: one file a command, one table of them."""
