//! Dates of somebody's care: admission, discharge, treatment, death. A date of any common form that is called so.

use alloc::boxed::Box;

use portcullis_core::kind::Kind;

use super::{Detector, date_of_birth};
use crate::{
    Schemes,
    identifiers::{Form, Lead, Scheme},
};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "care_date",
    doc: "Dates of admission, discharge, treatment and death (a date that is called so).",
    build: |_| Ok(Box::new(Schemes(SCHEMES))),
};

const SCHEMES: &[Scheme] = &[Scheme {
    labels: &[
        "admission",
        "admission date",
        "admission_date",
        "admissiondate",
        "admit date",
        "admit_date",
        "admitted",
        "discharge",
        "discharge date",
        "discharge_date",
        "dischargedate",
        "discharged",
        "date of death",
        "date_of_death",
        "dateofdeath",
        "death date",
        "death_date",
        "deceased",
        "deceaseddatetime",
        "date of service",
        "date_of_service",
        "service date",
        "service_date",
        "encounter date",
        "encounter_date",
        "date of surgery",
        "surgery date",
        "surgery_date",
        "procedure date",
        "procedure_date",
        "diagnosed",
        "diagnosis date",
        "aufnahmedatum",
        "entlassungsdatum",
        "todesdatum",
        "sterbedatum",
        "date d'admission",
        "date de sortie",
        "date de décès",
        "fecha de ingreso",
        "fecha de alta",
        "fecha de defunción",
    ],
    lead: Lead::Digit,
    form: Form::Called((1, 8), date_of_birth::read),
}];

#[cfg(test)]
mod tests {
    use crate::testing::{found, nothing};

    #[test]
    fn catches_dates_of_care_that_are_called_so() {
        for (text, expected) in [
            ("Admitted 2024-05-01, discharged 2024-05-07.", "2024-05-01|2024-05-07"),
            ("{\"date_of_death\": \"04/23/2023\"}", "04/23/2023"),
            ("Entlassungsdatum: 7. Mai 2024", "7. Mai 2024"),
        ] {
            found("care_date", text, expected);
        }
    }

    #[test]
    fn leaves_other_dates() {
        for text in ["released on 2024-05-01", "admitted 12 people", "due date: 2024-05-01"] {
            nothing("care_date", text);
        }
    }
}
