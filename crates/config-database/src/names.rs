//! The names of settings in messages.

/// What the program calls the settings of its server, for messages.
#[derive(Debug, Clone, Copy)]
pub struct ServerSettingNames {
    /// The setting that holds the URL of the store.
    pub store_url: &'static str,
    /// The setting that holds the administrator's key.
    pub admin_key: &'static str,
}

impl Default for ServerSettingNames {
    fn default() -> Self {
        Self {
            store_url: "`ServerSettings::store_url`",
            admin_key: "`ServerSettings::admin_key`",
        }
    }
}
