//! What is asked of networks.

use engine::{EndpointRequest, NetworkCreate, NetworkInfo, PoolRequest};
use hyper::StatusCode;
use serde_json::json;

use crate::{
    call::Call,
    containers::what_to_prune,
    endpoint,
    error::ApiError,
    fields::{Asked, Fields},
    query::Filters,
    reply::{self, Answer},
    shape::network::NetworkJson,
};

/// `GET /networks`.
pub(crate) async fn list(call: &Call) -> Answer {
    let filters = call.query.filters()?;
    filters.only(&["dangling", "driver", "id", "label", "name", "scope", "type"])?;
    let mut shapes = Vec::new();
    for network in call.engine().networks().await? {
        if wanted(&filters, &network)? {
            shapes.push(NetworkJson::in_list(&network));
        }
    }
    reply::json(&shapes)
}

/// Whether a network is one of those that are asked for.
///
/// Source: moby, `daemon/network/filter.go`.
fn wanted(filters: &Filters, network: &NetworkInfo) -> Result<bool, ApiError> {
    let any = |name: &str, matches: &dyn Fn(&str) -> bool| {
        let values = filters.of(name);
        values.is_empty() || values.iter().any(|value| matches(value))
    };
    for kind in filters.of("type") {
        if !matches!(kind.as_str(), "builtin" | "custom") {
            return Err(ApiError::bad(format!("invalid filter: 'type'='{kind}'")));
        }
    }
    let label = |text: &String| match text.split_once('=') {
        Some((key, value)) => network.labels.get(key).is_some_and(|own| own == value),
        None => network.labels.contains_key(text),
    };
    let dangling = filters.flag("dangling")?;
    Ok(dangling.is_none_or(|want| want == (!network.builtin && network.users.is_empty()))
        && any("driver", &|value| network.driver == value)
        && any("id", &|value| network.id.starts_with(value))
        && any("name", &|value| network.name.contains(value))
        && any("scope", &|value| value == "local")
        && any("type", &|value| (value == "builtin") == network.builtin)
        && filters.of("label").iter().all(label))
}

/// `GET /networks/{}`.
pub(crate) async fn inspect(call: &Call) -> Answer {
    let network = call.engine().network_inspect(&call.name).await?;
    match call.query.some("scope") {
        None | Some("local") => reply::json(&NetworkJson::of(&network)),
        Some(_) => Err(ApiError::missing(format!("network {} not found", call.name))),
    }
}

/// `POST /networks/create`.
pub(crate) async fn create(mut call: Call) -> Answer {
    let bytes = call.bytes().await?;
    let create = request(&bytes, None)?;
    let network = call.engine().network_create(create).await?;
    reply::json_with(StatusCode::CREATED, &json!({ "Id": network.id, "Warning": "" }))
}

/// What a request means; what it asks for is noted in `asked`.
pub(crate) fn request(bytes: &[u8], asked: Option<&Asked>) -> Result<NetworkCreate, ApiError> {
    let mut given = Fields::read(bytes, asked)?;
    let name = given.take::<String>("Name")?;
    let driver = given.text("Driver")?;
    if let Some(scope) = given.text("Scope")?.filter(|scope| scope != "local") {
        return Err(given.wrong("Scope", format!("{scope:?} is for swarms")));
    }
    for name in ["Ingress", "ConfigOnly"] {
        given.refuse(name, "it is for swarms")?;
    }
    let mut from = given.object("ConfigFrom")?;
    from.refuse("Network", "it is for swarms")?;
    from.done()?;
    given.ignore(&["CheckDuplicate"]);
    if given.some::<bool>("EnableIPv4")? == Some(false) {
        return Err(given.unbuilt("EnableIPv4", "networks have IPv4 addresses"));
    }
    let mut ipam = given.object("IPAM")?;
    if let Some(driver) = ipam.text("Driver")?.filter(|driver| driver != "default") {
        return Err(ipam.unbuilt("Driver", format!("there is no driver {driver:?}")));
    }
    ipam.refuse("Options", "the driver has no options")?;
    let mut pools = Vec::new();
    for mut pool in ipam.objects("Config")? {
        let auxiliary = match pool.some("AuxiliaryAddresses")? {
            Some(auxiliary) => auxiliary,
            None => pool.take("AuxAddress")?,
        };
        pools.push(PoolRequest {
            subnet: pool.text("Subnet")?,
            range: pool.text("IPRange")?,
            gateway: pool.text("Gateway")?,
            auxiliary,
        });
        pool.done()?;
    }
    ipam.done()?;
    let create = NetworkCreate {
        name,
        driver,
        internal: given.take("Internal")?,
        attachable: given.take("Attachable")?,
        ipv6: given.take("EnableIPv6")?,
        pools,
        labels: given.take("Labels")?,
        options: given.take("Options")?,
    };
    given.done()?;
    Ok(create)
}

/// `DELETE /networks/{}`.
pub(crate) async fn remove(call: &Call) -> Answer {
    call.engine().network_remove(&call.name).await?;
    reply::done()
}

/// `POST /networks/{}/connect`.
pub(crate) async fn connect(mut call: Call) -> Answer {
    let bytes = call.bytes().await?;
    let (who, request) = joining(&bytes, None)?;
    call.engine().network_connect(&call.name, &who, request).await?;
    Ok(reply::empty(StatusCode::OK))
}

/// Which container is to be connected, and how.
pub(crate) fn joining(
    bytes: &[u8],
    asked: Option<&Asked>,
) -> Result<(String, EndpointRequest), ApiError> {
    let mut given = Fields::read(bytes, asked)?;
    let who = given.take("Container")?;
    let request = endpoint::read(given.object("EndpointConfig")?)?;
    given.done()?;
    Ok((who, request))
}

/// Which container is to be disconnected.
pub(crate) fn leaving(bytes: &[u8], asked: Option<&Asked>) -> Result<String, ApiError> {
    let mut given = Fields::read(bytes, asked)?;
    let who = given.take("Container")?;
    // There is nothing that would hold it.
    given.ignore(&["Force"]);
    given.done()?;
    Ok(who)
}

/// `POST /networks/{}/disconnect`.
pub(crate) async fn disconnect(mut call: Call) -> Answer {
    let bytes = call.bytes().await?;
    let who = leaving(&bytes, None)?;
    call.engine().network_disconnect(&call.name, &who).await?;
    Ok(reply::empty(StatusCode::OK))
}

/// `POST /networks/prune`.
pub(crate) async fn prune(call: &Call) -> Answer {
    let filters = call.query.filters()?;
    filters.only(&["until", "label", "label!"])?;
    let gone = call.engine().network_prune(what_to_prune(&filters)?).await?;
    reply::json(&json!({ "NetworksDeleted": gone }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What docker 28 sends for `network create --subnet 10.5.0.0/24 --ip-range … mine`.
    const SENT: &[u8] = br#"{"Name":"mine","Driver":"bridge","Scope":"","EnableIPv6":false,
        "IPAM":{"Driver":"default","Options":{},"Config":[{"Subnet":"10.5.0.0/24",
        "IPRange":"10.5.0.128/25","Gateway":"10.5.0.9","AuxiliaryAddresses":{"a":"10.5.0.7"}}]},
        "Internal":true,"Attachable":false,"Ingress":false,"ConfigOnly":false,"ConfigFrom":null,
        "Options":{"com.docker.network.driver.mtu":"1400"},"Labels":{"k":"v"}}"#;

    #[test]
    fn a_request_of_the_stock_client_is_taken_whole() {
        let create = request(SENT, None).unwrap();
        assert_eq!((create.name.as_str(), create.internal), ("mine", true));
        let pool = &create.pools[0];
        assert_eq!(pool.range.as_deref(), Some("10.5.0.128/25"));
        assert_eq!(pool.auxiliary["a"], "10.5.0.7");
        assert_eq!((create.labels.len(), create.options.len()), (1, 1));
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (body, want) in [
            (r#"{"Name":"a","Ingress":true}"#, "Ingress"),
            (r#"{"Name":"a","ConfigFrom":{"Network":"b"}}"#, "ConfigFrom.Network"),
            (r#"{"Name":"a","EnableIPv4":false}"#, "EnableIPv4"),
            (r#"{"Name":"a","IPAM":{"Driver":"dhcp"}}"#, "IPAM.Driver"),
            (r#"{"Name":"a","Nonsense":1}"#, "Nonsense"),
        ] {
            let error = request(body.as_bytes(), None).unwrap_err().message;
            assert!(error.contains(want), "{error}");
        }
    }
}
