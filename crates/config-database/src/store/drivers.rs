//! The drivers of `sqlx::AnyPool`: one list for the process, which the program around the store may have set.

use std::sync::Once;

/// Makes sure that there are drivers. A list that the program has installed itself stays; it has to contain the driver of
/// the store.
pub(super) fn install_drivers() {
    static ONCE: Once = Once::new();
    // Nothing tells whether there is a list already. To install our own would make `install_default_drivers` panic when
    // the program calls it later; this call panics only after the program has called `install_drivers`.
    ONCE.call_once(|| {
        let _ = std::panic::catch_unwind(sqlx::any::install_default_drivers);
    });
}
