//! `punctual-agent reference`: what the references in `docs/reference` are made of.

use super::Failure;
use crate::{cli::Reference, settings};

impl Reference {
    pub(crate) fn print(self) -> Result<(), Failure> {
        let text = match self {
            Self::Settings => settings::reference(),
            Self::Agent => punctual_operations::description()
                .to_pretty_json()
                .map_err(Failure::failed)?,
            Self::ConfigDatabase => punctual_config_database::description()
                .to_pretty_json()
                .map_err(Failure::failed)?,
        };
        println!("{text}");
        Ok(())
    }
}
