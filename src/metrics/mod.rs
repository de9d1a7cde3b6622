//! Stand-in until merged.
/// x
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Dropped {
    /// x
    pub too_long: u64,
}
