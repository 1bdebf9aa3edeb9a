//! Absent fields, filled before anything is judged.

use serde_json::Value;

use crate::Schema;

/// Fills in defaults, and forgets `null` where it means absence.
pub(super) fn fill(schema: &Schema, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, property) in &schema.properties {
                let absent = fields.get(name).is_none_or(|v| v.is_null() && !property.nullable);
                if !absent {
                    continue;
                }
                match &property.default {
                    Some(default) => {
                        fields.insert(name.clone(), default.clone());
                    }
                    None => {
                        fields.shift_remove(name);
                    }
                }
            }
            if let Some(values) = &schema.additional {
                fields.retain(|name, v| {
                    !v.is_null() || values.nullable || schema.properties.contains_key(name)
                });
            }
            for (name, v) in fields {
                if let Some(s) = schema.properties.get(name).or(schema.additional.as_deref()) {
                    fill(s, v);
                }
            }
        }
        Value::Array(items) => {
            for (item, s) in items.iter_mut().zip(schema.items.as_deref().into_iter().cycle()) {
                fill(s, item);
            }
        }
        _ => {}
    }
}
