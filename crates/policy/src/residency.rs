//! Where data may go: kinds of data have regions, servers and callers are somewhere.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};

use portcullis_core::{Caller, Label, Treatment};
use serde_json::Value;

/// Where one kind of data may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// The regions.
    pub regions: BTreeSet<String>,
    /// What is done about it in answers to callers elsewhere: at least masked.
    pub answers: Treatment,
}

/// Where data may go, and where callers are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Residency {
    /// Kinds of data that may not go everywhere.
    pub data: BTreeMap<Label, Allowed>,
    /// Regions of callers by role.
    pub roles: BTreeMap<String, String>,
    /// The claim that says where a caller is: a text, or a list of texts.
    pub claim: Option<String>,
}

impl Residency {
    /// Where the caller is, as far as that is known. Who is in several regions is in each of them.
    pub(crate) fn regions<'a>(
        &'a self,
        caller: &'a Caller,
        roles: impl Iterator<Item = &'a String>,
    ) -> BTreeSet<&'a str> {
        let mut out: BTreeSet<&str> =
            roles.filter_map(|role| self.roles.get(role)).map(String::as_str).collect();
        let claimed = self.claim.as_ref().and_then(|claim| caller.claims.as_ref()?.get(claim));
        match claimed {
            Some(Value::String(region)) => drop(out.insert(region)),
            Some(Value::Array(regions)) => out.extend(regions.iter().filter_map(Value::as_str)),
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => {}
        }
        out
    }

    /// The kinds of data that may not go to somebody who is in all of these regions, and what is done about them in
    /// answers. Who is nowhere known gets none.
    pub(crate) fn abroad(&self, regions: &BTreeSet<&str>) -> BTreeMap<Label, Treatment> {
        let may =
            |one: &Allowed| !regions.is_empty() && regions.iter().all(|region| one.regions.contains(*region));
        let barred = self.data.iter().filter(|(_, one)| !may(one));
        barred.map(|(label, one)| (*label, one.answers.max(Treatment::Mask))).collect()
    }

    pub(crate) fn to_text(&self) -> String {
        format!("{self:?}")
    }
}

/// Where the two ends of a call are, as far as anything is said about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// The caller's regions.
    pub caller: Vec<String>,
    /// The server's.
    pub server: Option<String>,
}
