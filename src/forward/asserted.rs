//! Stage 7, identity headers (stand-in).
use crate::association::Bound;
use crate::gate::Gate;
use crate::refusal::Refusal;
use crate::transport::Side;
use crate::wire::{Edits, Message};
/// x
#[derive(Clone, Debug, Default)]
pub struct Settings;
/// x
/// # Errors
/// x
pub fn edit_request(
    _bound: &Bound<'_>,
    _gate: &Gate,
    _settings: &Settings,
) -> Result<Edits, Refusal> {
    Ok(Edits::new())
}
/// x
pub fn edit_response(_response: &Message, _to: Side, _gate: &Gate, _settings: &Settings) -> Edits {
    Edits::new()
}
