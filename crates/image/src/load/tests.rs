//! Archives of every age are loaded, and hostile ones are refused and leave nothing.

mod good;
mod hostile;
