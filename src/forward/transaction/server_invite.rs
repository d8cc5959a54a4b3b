//! Stage 7, transaction server_invite.
