//! How logs and audits name a tenant that was erased.

use punctual_domain::TenantId;

/// Characters of the hash.
const CHARACTERS: usize = 16;

/// The beginning of the BLAKE3 hash of a tenant's id. Agents and Config Databases name an erased tenant by it in logs and audits, so that
/// who knows the id finds what was done, and the id itself is kept nowhere.
#[must_use]
pub fn tenant_hash(tenant_id: &TenantId) -> String {
    let hash = blake3::hash(tenant_id.as_str().as_bytes()).to_hex();
    hash[..CHARACTERS].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_short_the_same_each_time_and_does_not_show_the_id() {
        let hash = |id: &str| tenant_hash(&TenantId::new(id).unwrap());
        assert_eq!(hash("ann").len(), CHARACTERS);
        assert_eq!(hash("ann"), hash("ann"));
        assert_ne!(hash("ann"), hash("bob"));
        assert!(!hash("ann").contains("ann"));
    }
}
