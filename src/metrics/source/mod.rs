//! Where metrics come from. One file each, and one line each in the list below.

mod kind;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::others::{MAX_NAME, MAX_OTHERS};
use crate::core::exactly_one;
use kind::Kind;

pub use prometheus::PrometheusSpec;
pub use tensor_board::TensorBoardSpec;

/// From `file: Type` for each source to all that lists them.
macro_rules! sources {
    ($($name:ident: $Source:ident,)*) => {
        $(mod $name;)*

        /// Where metrics come from.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each is described in its file")]
        pub enum Source {
            $($Source,)*
        }

        impl Source {
            /// The names of all sources in the API.
            pub const NAMES: &[&str] = &[$($name::$Source::NAME),*];

            /// Its name in the API.
            pub fn name(self) -> &'static str {
                match self {
                    $(Source::$Source => $name::$Source::NAME,)*
                }
            }

            /// Whether, in a cluster, a sidecar reads it. If not, the operator reads the trainer's log.
            pub fn has_sidecar(self) -> bool {
                match self {
                    $(Source::$Source => $name::$Source::HAS_SIDECAR,)*
                }
            }
        }

        impl Source {
            /// The environment variable that tells the trainer where to put its metrics, where there is one.
            pub fn variable(self) -> Option<&'static str> {
                match self {
                    $(Source::$Source => $name::$Source::VARIABLE,)*
                }
            }
        }

        /// Where the trainer's metrics are found: one of `file`, `stdout`, `tensorBoard` and `prometheus`; and what else is to be
        /// known to read them.
        #[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase")]
        #[schemars(transform = one_source)]
        #[allow(missing_docs, reason = "each is described in its file")]
        pub struct MetricsSpec {
            $(
                #[serde(default, skip_serializing_if = "Option::is_none")]
                #[schemars(description = $name::$Source::DESCRIPTION)]
                pub $name: Option<<$name::$Source as Kind>::Settings>,
            )*
            /// The name of the step: a field of JSON lines, the word before the number in text, a metric of Prometheus. No other
            /// word counts then. Event files have steps of their own.
            /// Left out: `step`, `epoch`, `iteration`, `global_step` or `iter`, the first of them in JSON, the first one to
            /// stand in a line of text.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z_][A-Za-z0-9_./@-]*$"))]
            pub step: Option<String>,
            /// Metrics that are kept beside the objective, in a Trial's `status.metrics`, from any line of text. Those of a line
            /// that holds the objective's metric, and all numbers of JSON lines, are kept without being named, 32 in all.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            #[schemars(schema_with = "additional_schema")]
            pub additional: Vec<String>,
        }

        impl MetricsSpec {
            /// The sources that are given, with their patterns: one, where the spec is valid.
            pub fn given(&self) -> Vec<(Source, &[String])> {
                let all = [$(self.$name.as_ref().map(|given| (Source::$Source, $name::$Source::patterns(given)))),*];
                all.into_iter().flatten().collect()
            }

            /// The first source that is given, and `file` where none is.
            pub fn source(&self) -> Source {
                self.given().first().map_or(Source::File, |(source, _)| *source)
            }
        }
    };
}

sources! {
    file: File,
    stdout: Stdout,
    tensor_board: TensorBoard,
    prometheus: Prometheus,
}

fn one_source(schema: &mut Schema) {
    exactly_one(schema, "metrics", Source::NAMES);
}

fn additional_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": MAX_OTHERS,
        "items": {"type": "string", "minLength": 1, "maxLength": MAX_NAME},
    })
}
