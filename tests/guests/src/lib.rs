//! Nothing: each program in `programs/` is a plugin of its own, with one behaviour that a host must cope with.
