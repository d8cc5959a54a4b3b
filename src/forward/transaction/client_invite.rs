//! Stage 7, transaction client_invite.
