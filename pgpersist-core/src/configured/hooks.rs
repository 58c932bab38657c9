//! Whom the configuration wants told of failures and recoveries.

use std::path::Path;
use std::sync::Arc;

use crate::agent::hooks::Hook;
use crate::agent::hooks::command::CommandHook;
use crate::agent::hooks::heartbeat::Heartbeat;
use crate::agent::hooks::http_client::HttpClient;
use crate::agent::hooks::options::HooksOptions;
use crate::agent::hooks::webhook::WebhookHook;
use crate::config::load::Config;
use crate::configured::health;
use crate::error::{Error, Result};
use crate::fs::secret_file;
use crate::server::cluster::Cluster;
use crate::web_url::{WebUrl, WebUrlError};

/// Who is told, if anybody.
pub(super) fn hooks(config: &Config, cluster: &Cluster) -> Result<Option<HooksOptions>> {
    let told = &config.hooks;
    if told.is_empty() {
        return Ok(None);
    }
    let mut options = HooksOptions::new(health::of(config, cluster.clone(), &[]));
    (options.interval, options.deadline) = (told.interval, told.deadline);
    let client = HttpClient::new(told.ca_file.as_deref())?;
    let mut hooks: Vec<Arc<dyn Hook>> = Vec::new();
    if let Some(command) = &told.command {
        hooks.push(Arc::new(CommandHook::new(command.expose().clone())?.as_user(cluster.options().os_user.clone())));
    }
    let webhook = match &told.webhook_file {
        Some(file) => Some(address(file)?),
        None => told.webhook.clone(),
    };
    if let Some(webhook) = webhook {
        let token = told.webhook_token_file.as_deref();
        let token = token.map(|file| secret_file::read(file, "token", "[hooks] webhook_token_file")).transpose()?;
        hooks.push(Arc::new(WebhookHook::new(webhook, client.clone(), token.as_ref())?));
    }
    options.hooks = hooks;
    options.heartbeat = told.heartbeat.clone().map(|url| Heartbeat::new(url, client, told.heartbeat_interval));
    Ok(Some(options))
}

fn address(file: &Path) -> Result<WebUrl> {
    let text = secret_file::read(file, "address", "[hooks] webhook_file")?;
    text.expose().parse().map_err(|error: WebUrlError| {
        Error::invalid(format!("{}: {error}", file.display()), "write the address into it that the service has given out, and nothing else")
    })
}
