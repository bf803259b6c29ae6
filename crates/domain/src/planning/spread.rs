//! How the tenants of one slot are spread over the minutes after it, so that they do not all fall due at once.

use crate::ids::TenantId;

/// A tenant's minute within the spread: the same for ever, for the same tenant and number of minutes.
pub(crate) fn spread_minute(tenant: &TenantId, spread_minutes: u32) -> u16 {
    if spread_minutes <= 1 {
        return 0;
    }
    // FNV-1a: the standard library's hashers do not promise the same value in the next release.
    let hash = tenant
        .as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
    (hash % u64::from(spread_minutes)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_never_changes_not_even_with_the_next_release() {
        let tenant = TenantId::new("user123").unwrap();
        assert_eq!(spread_minute(&tenant, 60), 2);
        assert_eq!(
            (spread_minute(&tenant, 1), spread_minute(&tenant, 0)),
            (0, 0)
        );
    }
}
