//! Whom `run` tells of failures and recoveries, from the configuration.

use std::path::Path;
use std::sync::Arc;

use crate::commands::health;
use crate::context::Context;
use pgpersist_core::agent::hooks::Hook;
use pgpersist_core::agent::hooks::command::CommandHook;
use pgpersist_core::agent::hooks::heartbeat::Heartbeat;
use pgpersist_core::agent::hooks::http_client::HttpClient;
use pgpersist_core::agent::hooks::options::HooksOptions;
use pgpersist_core::agent::hooks::webhook::WebhookHook;
use pgpersist_core::agent::secret_file;
use pgpersist_core::error::{Error, Result};
use pgpersist_core::server::cluster::Cluster;
use pgpersist_core::web_url::{WebUrl, WebUrlError};

/// Who is told, if anybody.
pub(super) fn hooks(context: &Context, cluster: &Cluster) -> Result<Option<HooksOptions>> {
    let config = &context.config()?.hooks;
    if config.is_empty() {
        return Ok(None);
    }
    let mut health = health::options(&[], context)?;
    health.cluster = cluster.clone();
    let mut options = HooksOptions::new(health);
    (options.interval, options.deadline) = (config.interval, config.deadline);
    let client = HttpClient::new(config.ca_file.as_deref())?;
    let mut hooks: Vec<Arc<dyn Hook>> = Vec::new();
    if let Some(command) = &config.command {
        hooks.push(Arc::new(CommandHook::new(command.expose().clone())?));
    }
    let webhook = match &config.webhook_file {
        Some(file) => Some(address(file)?),
        None => config.webhook.clone(),
    };
    if let Some(webhook) = webhook {
        let token = config.webhook_token_file.as_deref();
        let token = token.map(|file| secret_file::read(file, "token", "[hooks] webhook_token_file")).transpose()?;
        hooks.push(Arc::new(WebhookHook::new(webhook, client.clone(), token.as_ref())?));
    }
    options.hooks = hooks;
    options.heartbeat = config.heartbeat.clone().map(|url| Heartbeat::new(url, client, config.heartbeat_interval));
    Ok(Some(options))
}

fn address(file: &Path) -> Result<WebUrl> {
    let text = secret_file::read(file, "address", "[hooks] webhook_file")?;
    text.expose().parse().map_err(|error: WebUrlError| {
        Error::invalid(format!("{}: {error}", file.display()), "write the address into it that the service has given out, and nothing else")
    })
}
