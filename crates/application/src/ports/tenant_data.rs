//! Each tenant's own data for jobs that follow preferences, such as what happened in the tenant's shop since the last
//! digest.
//!
//! An embedding program implements [`fetch`](TenantData::fetch) over data of its own, gives it to the builder under a name,
//! and names it in a job's `data`. A call is for up to 500 tenants of one run, so one statement should answer it.
//! `testing::contract::tenant_data` checks an implementation.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use punctual_domain::{DataRequest, DataSource, TenantId};
use serde_json::Value;

use super::HandlerError;

/// The data of tenants. Tenants who are left out have none. An error is that of one tenant; the others run.
pub type TenantAnswers = HashMap<TenantId, Result<Value, HandlerError>>;

/// Fetches the data of tenants.
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait TenantData: Send + Sync {
    /// The data of the tenants of a request, from where the job says. `null`, an empty text, list or object mean that the
    /// tenant has none, as does no answer at all.
    ///
    /// Calls run concurrently, and are repeated after failures, each time for all tenants of the request. A call may take a
    /// minute; one that takes longer is dropped at any `await`, and a panic is caught. Both count as retryable errors.
    ///
    /// # Errors
    /// [`HandlerError`] says whether another attempt makes sense, as for handlers. It fails this attempt of all items of the
    /// request, so its text must hold no secret.
    async fn fetch(
        &self,
        source: &DataSource,
        request: &DataRequest,
    ) -> Result<TenantAnswers, HandlerError>;
}

#[async_trait]
impl<T: TenantData + ?Sized> TenantData for Arc<T> {
    async fn fetch(
        &self,
        source: &DataSource,
        request: &DataRequest,
    ) -> Result<TenantAnswers, HandlerError> {
        (**self).fetch(source, request).await
    }
}
