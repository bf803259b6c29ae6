//! The data of tenants: from providers of the program, and from URLs.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use punctual_application::ports::{HandlerError, TenantAnswers, TenantData};
use punctual_domain::{DataRequest, DataSource};

/// Providers by name; all other sources are read by the reader, if there is one.
pub(crate) struct AllData {
    pub(crate) providers: HashMap<String, Arc<dyn TenantData>>,
    pub(crate) others: Option<Arc<dyn TenantData>>,
}

#[async_trait]
impl TenantData for AllData {
    async fn fetch(
        &self,
        source: &DataSource,
        request: &DataRequest,
    ) -> Result<TenantAnswers, HandlerError> {
        let provider = match source {
            DataSource::Provider(name) => self.providers.get(name),
            DataSource::Http(_) => self.others.as_ref(),
        };
        match provider {
            Some(provider) => provider.fetch(source, request).await,
            None => Err(HandlerError::permanent(match source {
                DataSource::Provider(name) => {
                    format!("this program has no provider `{name}`; give the builder `tenant_data`")
                }
                DataSource::Http(_) => {
                    "this program reads no URLs; switch the feature `http` on".to_owned()
                }
            })),
        }
    }
}

#[cfg(test)]
mod tests {
    use punctual_application::testing::{
        FakeTenantData,
        contract::{self, DATA},
    };
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn a_provider_is_asked_by_its_name() {
        let fake = FakeTenantData::default();
        for (tenant, data) in DATA {
            fake.put(tenant, json!(data));
        }
        let fake: Arc<dyn TenantData> = Arc::new(fake);
        let providers = HashMap::from([("activity".to_owned(), fake)]);
        let data = AllData {
            providers,
            others: None,
        };
        let source = |name: &str| DataSource::Provider(name.to_owned());
        contract::tenant_data(&data, &source("activity")).await;
        let request = DataRequest {
            job_id: punctual_domain::JobId::new("digest").unwrap(),
            occurrence: "2026-03-02".parse().unwrap(),
            scheduled_at: "2026-03-02T09:00:00Z".parse().unwrap(),
            tenants: vec![],
        };
        let error = data.fetch(&source("orders"), &request).await.unwrap_err();
        assert!(error.message.contains("no provider `orders`"), "{error}");
    }
}
