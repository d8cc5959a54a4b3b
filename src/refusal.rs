//! Every reason to say no.
