//! The three calls of etcd's JSON gateway that scripts use: `POST /v3/kv/range`, `put` and `deleterange`.
//!
//! As there, bytes are base64 and 64-bit numbers are strings in answers (numbers and strings in requests); what has its
//! default value is left out.

use axum::Router;
use axum::body::Bytes as Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use caracal_wire::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, ResponseHeader, range_request::SortOrder,
    range_request::SortTarget,
};
use caracal_wire::{Bytes, KeyValue};
use serde_json::{Map, Value, json};
use tonic::Code;

use crate::engine::Engine;
use crate::error::RequestError;

/// Adds the calls to a router.
pub(crate) fn routes(router: Router, engine: &Engine) -> Router {
    let (ranges, puts, deletes) = (engine.clone(), engine.clone(), engine.clone());
    router
        .route(
            "/v3/kv/range",
            post(move |body: Body| async move { answer(range(&ranges, &body).await) }),
        )
        .route(
            "/v3/kv/put",
            post(move |body: Body| async move { answer(put(&puts, &body).await) }),
        )
        .route(
            "/v3/kv/deleterange",
            post(move |body: Body| async move { answer(delete(&deletes, &body).await) }),
        )
}

/// Why a call failed: what was sent is not understood, or the store said no.
enum Failure {
    Input(String),
    Request(RequestError),
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        Self::Request(error)
    }
}

fn answer(result: Result<Value, Failure>) -> Response {
    let (status, body) = match result {
        Ok(body) => (StatusCode::OK, body),
        Err(failure) => {
            let (code, message) = match failure {
                Failure::Input(message) => (Code::InvalidArgument, message),
                Failure::Request(error) => (error.code(), error.to_string()),
            };
            let status = match code {
                Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition => {
                    StatusCode::BAD_REQUEST
                }
                Code::NotFound => StatusCode::NOT_FOUND,
                Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
                _ => StatusCode::SERVICE_UNAVAILABLE,
            };
            (
                status,
                json!({"error": message, "message": message, "code": i32::from(code)}),
            )
        }
    };
    (
        status,
        [(header::CONTENT_TYPE, "application/json")],
        body.to_string(),
    )
        .into_response()
}

/// The fields of a request's body. What is asked for is taken out, so that what is left is unknown.
struct Fields(Map<String, Value>);

impl Fields {
    fn parse(body: &[u8]) -> Result<Self, Failure> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(Failure::Input("the body must be a JSON object".into())),
            Err(error) => Err(Failure::Input(format!("the body is not JSON: {error}"))),
        }
    }

    fn bytes(&mut self, name: &str) -> Result<Bytes, Failure> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(Bytes::new()),
            Some(Value::String(text)) => BASE64
                .decode(&text)
                .map(Bytes::from)
                .map_err(|error| Failure::Input(format!("{name}: not base64: {error}"))),
            Some(other) => Err(Failure::Input(format!(
                "{name}: must be a base64 string, not {other}"
            ))),
        }
    }

    fn number(&mut self, name: &str) -> Result<i64, Failure> {
        let bad = |value: &Value| Failure::Input(format!("{name}: must be a 64-bit number, not {value}"));
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(0),
            Some(Value::String(text)) => text.parse().map_err(|_| bad(&Value::String(text))),
            Some(value) => value.as_i64().ok_or_else(|| bad(&value)),
        }
    }

    fn flag(&mut self, name: &str) -> Result<bool, Failure> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(Failure::Input(format!(
                "{name}: must be true or false, not {other}"
            ))),
        }
    }

    /// An enum, by name or by number.
    fn choice(&mut self, name: &str, by_name: impl Fn(&str) -> Option<i32>) -> Result<i32, Failure> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(0),
            Some(Value::String(text)) => {
                by_name(&text).ok_or_else(|| Failure::Input(format!("{name}: unknown value {text:?}")))
            }
            Some(value) => value
                .as_i64()
                .and_then(|number| i32::try_from(number).ok())
                .ok_or_else(|| Failure::Input(format!("{name}: unknown value {value}"))),
        }
    }

    fn finish(self) -> Result<(), Failure> {
        match self.0.keys().next() {
            Some(name) => Err(Failure::Input(format!("unknown field {name:?}"))),
            None => Ok(()),
        }
    }
}

async fn range(engine: &Engine, body: &[u8]) -> Result<Value, Failure> {
    let mut fields = Fields::parse(body)?;
    let request = RangeRequest {
        key: fields.bytes("key")?,
        range_end: fields.bytes("range_end")?,
        limit: fields.number("limit")?,
        revision: fields.number("revision")?,
        sort_order: fields.choice("sort_order", |name| SortOrder::from_str_name(name).map(i32::from))?,
        sort_target: fields.choice("sort_target", |name| {
            SortTarget::from_str_name(name).map(i32::from)
        })?,
        serializable: fields.flag("serializable")?,
        keys_only: fields.flag("keys_only")?,
        count_only: fields.flag("count_only")?,
        min_mod_revision: fields.number("min_mod_revision")?,
        max_mod_revision: fields.number("max_mod_revision")?,
        min_create_revision: fields.number("min_create_revision")?,
        max_create_revision: fields.number("max_create_revision")?,
    };
    fields.finish()?;
    let response = engine.range(request).await?;
    let mut out = Map::new();
    out.insert("header".into(), head(response.header));
    if !response.kvs.is_empty() {
        out.insert("kvs".into(), response.kvs.iter().map(pair).collect());
    }
    if response.more {
        out.insert("more".into(), Value::Bool(true));
    }
    set(&mut out, "count", response.count);
    Ok(Value::Object(out))
}

async fn put(engine: &Engine, body: &[u8]) -> Result<Value, Failure> {
    let mut fields = Fields::parse(body)?;
    let request = PutRequest {
        key: fields.bytes("key")?,
        value: fields.bytes("value")?,
        lease: fields.number("lease")?,
        prev_kv: fields.flag("prev_kv")?,
        ignore_value: fields.flag("ignore_value")?,
        ignore_lease: fields.flag("ignore_lease")?,
    };
    fields.finish()?;
    let response = engine.put(request).await?;
    let mut out = Map::new();
    out.insert("header".into(), head(response.header));
    if let Some(previous) = &response.prev_kv {
        out.insert("prev_kv".into(), pair(previous));
    }
    Ok(Value::Object(out))
}

async fn delete(engine: &Engine, body: &[u8]) -> Result<Value, Failure> {
    let mut fields = Fields::parse(body)?;
    let request = DeleteRangeRequest {
        key: fields.bytes("key")?,
        range_end: fields.bytes("range_end")?,
        prev_kv: fields.flag("prev_kv")?,
    };
    fields.finish()?;
    let response = engine.delete_range(request).await?;
    let mut out = Map::new();
    out.insert("header".into(), head(response.header));
    set(&mut out, "deleted", response.deleted);
    if !response.prev_kvs.is_empty() {
        out.insert("prev_kvs".into(), response.prev_kvs.iter().map(pair).collect());
    }
    Ok(Value::Object(out))
}

fn set(out: &mut Map<String, Value>, name: &str, number: i64) {
    if number != 0 {
        out.insert(name.into(), Value::String(number.to_string()));
    }
}

fn head(header: Option<ResponseHeader>) -> Value {
    let header = header.unwrap_or_default();
    json!({
        "cluster_id": header.cluster_id.to_string(),
        "member_id": header.member_id.to_string(),
        "revision": header.revision.to_string(),
        "raft_term": header.raft_term.to_string(),
    })
}

fn pair(kv: &KeyValue) -> Value {
    let mut out = Map::new();
    out.insert("key".into(), Value::String(BASE64.encode(&kv.key)));
    set(&mut out, "create_revision", kv.create_revision);
    set(&mut out, "mod_revision", kv.mod_revision);
    set(&mut out, "version", kv.version);
    if !kv.value.is_empty() {
        out.insert("value".into(), Value::String(BASE64.encode(&kv.value)));
    }
    set(&mut out, "lease", kv.lease);
    Value::Object(out)
}
