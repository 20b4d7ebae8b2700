//! The pages on which a user connects: what is asked, by whom, for whom, in words that a person can refuse. They hold no
//! script, load nothing, and are never shown inside another page.

use std::sync::Arc;

use crate::{
    authorizer::Authorizer,
    flow::{Consent, Departure, Ticket},
    identity::{self, Place, document_url},
    outgoing::Outgoing,
};

/// What every page is sent with.
pub const HEADERS: [(&str, &str); 6] = [
    // `form-action` names no other place: browsers would follow no redirect of the form out of the gateway otherwise.
    (
        "content-security-policy",
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    ),
    ("x-frame-options", "DENY"),
    ("x-content-type-options", "nosniff"),
    // Not `no-referrer`: browsers would hide from us where a form comes from.
    ("referrer-policy", "same-origin"),
    ("cache-control", "no-store"),
    ("cross-origin-opener-policy", "same-origin"),
];

/// Name of the cookie. The prefix binds it to this very host, and to encrypted connections.
pub const COOKIE: &str = "__Host-portcullis-connect";

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem}\
    dt{font-weight:600;margin-top:.6rem}dd{margin:0;overflow-wrap:anywhere}input,button{font:inherit;padding:.4rem .6rem}\
    input{width:100%;box-sizing:border-box}button{margin-top:1rem}";

/// A value of `Set-Cookie`.
#[must_use]
pub fn set_cookie(value: &str) -> String {
    format!("{COOKIE}={value}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=600")
}

/// A value of `Set-Cookie` that takes the cookie back.
#[must_use]
pub fn unset_cookie() -> String {
    format!("{COOKIE}=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0")
}

/// The one value of our cookie; two of them are none.
#[must_use]
pub fn cookie<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut found = headers
        .into_iter()
        .flat_map(|header| header.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| *name == COOKIE)
        .map(|(_, value)| value);
    found.next().filter(|_| found.next().is_none())
}

/// Text inside a page.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // What turns text around or hides in it would show another name than the one that is there.
            c if c.is_control()
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}') =>
            {
                out.push('\u{fffd}');
            }
            c => out.push(c),
        }
    }
    out
}

/// A page with a title and some words.
#[must_use]
pub fn message(title: &str, text: &str) -> String {
    let (title, text) = (escape(title), escape(text));
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}</style>\
         <h1>{title}</h1><p>{text}</p></html>"
    )
}

const PURPOSE: &str = "connect consent";

/// What is sealed into the form: what the page showed, to whom and in which browser.
#[derive(serde::Deserialize, serde::Serialize)]
struct Shown {
    consent: Consent,
}

impl Outgoing {
    /// What all servers share.
    #[must_use]
    pub const fn authorizer(&self) -> &Arc<Authorizer> {
        &self.authorizer
    }

    /// Name of its server.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The page that asks: who wants what from whom, and for whom. The form proves who answers it, and holds sealed what
    /// was shown, for this browser alone.
    #[must_use]
    pub fn page(
        &self,
        ticket: &Ticket,
        text: &str,
        consent: &Consent,
        cookie: &str,
        wrong: bool,
    ) -> Option<String> {
        let shown = serde_json::to_vec(&Shown { consent: consent.clone() }).ok()?;
        let seal = self.authorizer.vault.seal(PURPOSE, &[cookie, &ticket.nonce, &self.server], &shown)?;
        let scopes = if consent.scopes.is_empty() {
            "whatever the authorization server grants".to_owned()
        } else {
            consent.scopes.join(" ")
        };
        let rows = [
            ("Server", self.server.to_string()),
            ("Its address", self.settings.url.to_string()),
            ("Access is granted by", consent.issuer.clone()),
            ("Scopes", scopes),
            ("The token is kept for", ticket.caller.clone()),
            ("The gateway is called there", consent.client.clone()),
            ("You come back to", consent.redirect.clone()),
        ];
        let rows: String =
            rows.iter().map(|(name, value)| format!("<dt>{name}<dd>{}", escape(value))).collect();
        let server = escape(&self.server);
        let warning =
            if wrong { "<p><strong>That is no valid credential of this caller.</strong></p>" } else { "" };
        Some(format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Connect {server}</title>\
             <style>{STYLE}</style><h1>Connect {server}</h1>\
             <p>This gateway wants to use the server below on your behalf. Go on only if you asked for this a moment ago: \
             whoever sent you this link otherwise would use your account.</p><dl>{rows}</dl>{warning}\
             <form method=\"post\" action=\"/connect/{server}\">\
             <input type=\"hidden\" name=\"ticket\" value=\"{}\"><input type=\"hidden\" name=\"seal\" value=\"{seal}\">\
             <p><label>Your credential at this gateway (API key or token), to show that it is you\
             <input type=\"password\" name=\"credential\" autocomplete=\"off\"></label></p>\
             <button name=\"answer\" value=\"connect\">Connect</button></form>\
             <p>To refuse, close this page.</p></html>",
            escape(text),
        ))
    }

    /// What a form was shown with; nothing where it is of another browser, caller or server.
    #[must_use]
    pub fn shown(&self, ticket: &Ticket, seal: &str, cookie: &str) -> Option<Consent> {
        let bound = [cookie, &*ticket.nonce, &*self.server];
        let plain = self.authorizer.vault.open(PURPOSE, &bound, seal)?;
        serde_json::from_slice::<Shown>(&plain).ok().map(|shown| shown.consent)
    }
}

/// The document about the gateway that authorization servers fetch.
#[must_use]
pub fn client_document(public: &str) -> String {
    let redirect = format!("{public}/connect/callback");
    identity::about(Place { public, redirect: &redirect }, "none", Some(&document_url(public)))
}

/// What a browser gets that is sent to an authorization server.
#[must_use]
pub fn departure(departure: &Departure) -> [(&'static str, String); 2] {
    [("location", departure.url.to_string()), ("set-cookie", set_cookie(departure.cookie.expose()))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_others_write_becomes_markup_or_turns_text_around() {
        let hostile = "<script>alert('1')</script>\" onload=x & \u{202e}moc.elgoog\u{0}\u{200b}";
        let page = message(hostile, hostile);
        assert!(!page.contains("<script") && !page.contains("\u{202e}") && !page.contains('\u{0}'));
        assert!(!page.contains("\" onload"));
    }

    #[test]
    fn two_cookies_of_the_same_name_are_none() {
        let named = |value: &str| format!("{COOKIE}={value}");
        assert_eq!(cookie([&*format!("a=b; {}; c=d", named("x"))]), Some("x"));
        assert_eq!(cookie([&*named("x"), &*named("y")]), None);
        assert_eq!(cookie([&*format!("{}; {}", named("x"), named("x"))]), None);
        assert_eq!(cookie(["x=y", ""]), None);
        assert!(
            set_cookie("v").starts_with("__Host-")
                && set_cookie("v").contains("; Secure; HttpOnly; SameSite=Lax")
        );
    }
}
