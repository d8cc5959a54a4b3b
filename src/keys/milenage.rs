//! Keys, milenage.
