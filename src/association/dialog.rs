//! Stage 5, dialog.
