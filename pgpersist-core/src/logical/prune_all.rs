//! Retention in all stores of a cluster, each by its own rules.

use futures_util::future::BoxFuture;
use serde::Serialize;
use time::OffsetDateTime;

use crate::error::Result;
use crate::logical::prune::{Consent, PruneRequest, StorePrune};
use crate::logical::prune_plan::PrunePlan;

/// What became of all stores, or would. Serialised, it is the document of `pgpersist prune --json`: what became of the first one at
/// the top, and of each in `stores`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PruneReport {
    /// The first store's, where it did not fail.
    #[serde(flatten)]
    pub first: Option<PrunePlan>,
    /// Each store.
    pub stores: Vec<StorePrune>,
}

/// What retention would drop at this moment.
///
/// # Errors
/// What the store says, where there is one alone; of several, each tells its own.
pub fn plan<'a>(requests: &'a [PruneRequest], now: OffsetDateTime) -> BoxFuture<'a, Result<PruneReport>> {
    Box::pin(async move {
        let mut stores = Vec::new();
        for request in requests {
            stores.push(told(requests, request, request.plan(now).await)?);
        }
        Ok(report(stores))
    })
}

/// Drops what no rule keeps. What needs a confirmation is asked for before anything is dropped anywhere.
///
/// # Errors
/// [`Error::ConsentNeeded`](crate::error::Error::ConsentNeeded) when more than half of the dumps of a store would go and nobody has said
/// so; as [`plan`].
pub fn carry_out<'a>(requests: &'a [PruneRequest], consent: Consent, now: OffsetDateTime) -> BoxFuture<'a, Result<PruneReport>> {
    Box::pin(async move {
        if consent == Consent::Missing && requests.len() > 1 {
            for request in requests {
                // What is wrong with a store is told when it is its turn.
                if let Ok(plan) = request.plan(now).await {
                    plan.refuse_unconfirmed()?;
                }
            }
        }
        let mut stores = Vec::new();
        for request in requests {
            stores.push(told(requests, request, request.carry_out(consent, now).await)?);
        }
        Ok(report(stores))
    })
}

fn told(all: &[PruneRequest], request: &PruneRequest, result: Result<PrunePlan>) -> Result<StorePrune> {
    // One store alone has an error like every other operation.
    if all.len() == 1 { result.map(|plan| request.told(Ok(plan))) } else { Ok(request.told(result)) }
}

fn report(stores: Vec<StorePrune>) -> PruneReport {
    PruneReport { first: stores.first().and_then(|store| store.plan.clone()), stores }
}
