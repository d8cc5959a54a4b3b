//! The UE, sockets.
