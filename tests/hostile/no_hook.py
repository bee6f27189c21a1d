"""A package that forgot to implement a hook."""
