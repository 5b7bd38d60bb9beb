//! Backup and restore on the command line.
