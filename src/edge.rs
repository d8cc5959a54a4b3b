//! The journey with a socket at either end.
