//! The port `TenantData`, in memory.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};

use async_trait::async_trait;
use punctual_domain::{DataRequest, DataSource, TenantId};
use serde_json::Value;

use crate::ports::{HandlerError, TenantAnswers, TenantData};

/// Data in memory, which a test can also make fail. It looks at tenants alone.
#[derive(Debug, Default)]
pub struct FakeTenantData(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    data: HashMap<TenantId, Result<Value, HandlerError>>,
    failures: Vec<HandlerError>,
    requests: Vec<DataRequest>,
}

impl FakeTenantData {
    fn state(&self) -> MutexGuard<'_, State> {
        let state = self.0.lock();
        state.expect("nothing panics while it holds the lock")
    }

    /// Puts the data of a tenant in place of what was there.
    ///
    /// # Panics
    /// If `tenant` cannot be an id.
    pub fn put(&self, tenant: &str, data: Value) {
        let tenant = TenantId::new(tenant).expect("a test gives an id");
        self.state().data.insert(tenant, Ok(data));
    }

    /// Fails for one tenant from now on.
    ///
    /// # Panics
    /// If `tenant` cannot be an id.
    pub fn refuse(&self, tenant: &str, error: HandlerError) {
        let tenant = TenantId::new(tenant).expect("a test gives an id");
        self.state().data.insert(tenant, Err(error));
    }

    /// Fails so the next time, after those that were given before.
    pub fn fail_next(&self, error: HandlerError) {
        self.state().failures.push(error);
    }

    /// What it has been asked for.
    #[must_use]
    pub fn requests(&self) -> Vec<DataRequest> {
        self.state().requests.clone()
    }
}

#[async_trait]
impl TenantData for FakeTenantData {
    async fn fetch(
        &self,
        _: &DataSource,
        request: &DataRequest,
    ) -> Result<TenantAnswers, HandlerError> {
        let mut state = self.state();
        state.requests.push(request.clone());
        if !state.failures.is_empty() {
            return Err(state.failures.remove(0));
        }
        let answer = |tenant: &TenantId| Some((tenant.clone(), state.data.get(tenant)?.clone()));
        let tenants = request.tenants.iter().map(|tenant| &tenant.tenant_id);
        Ok(tenants.filter_map(answer).collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::contract::{self, DATA};

    #[tokio::test]
    async fn the_fake_keeps_the_contract() {
        let fake = FakeTenantData::default();
        for (tenant, data) in DATA {
            fake.put(tenant, json!(data));
        }
        let source = DataSource::Provider("fake".to_owned());
        contract::tenant_data(&fake, &source).await;
    }
}
