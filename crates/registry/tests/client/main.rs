//! The client against registries that are written here: whole ones, and such as lie, break off,
//! and forget.

mod fake;
mod hostile;
mod pieces;
mod sources;
mod uploads;
