//! The fence.

/// What the names of receiver's own triggers begin with.
const OURS: &str = "receiver_";

/// Whether a trigger is receiver's own.
pub(super) fn is_ours(name: &str) -> bool {
    name.starts_with(OURS)
}
