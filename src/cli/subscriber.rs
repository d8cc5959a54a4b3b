//! sipward subscriber.
