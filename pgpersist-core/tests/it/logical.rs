//! Dumps and loads against a real server.
