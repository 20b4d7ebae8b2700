//! A person's browser: keeps the cookie of the gateway, sends it nowhere else, and sends a form with the origin it came
//! from. It goes one step at a time, so that a test can do something else in between.

use portcullis_testkit::{Client, Outcome, Reply};

use crate::provider::encoded;

/// A browser, with its owner logged in at the authorization server.
#[derive(Clone, Debug, Default)]
pub struct Browser {
    login: String,
    pub cookie: String,
    http: Client,
}

/// A page of the gateway with a form.
#[derive(Clone, Debug)]
pub struct Form {
    pub ticket: String,
    pub seal: String,
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    text.split_once(before).and_then(|(_, rest)| rest.split_once(after)).map_or("", |(inner, _)| inner)
}

/// The link in what a client was told.
pub fn link(told: &str) -> Outcome<String> {
    let at = told.find("http://").ok_or_else(|| format!("no link in {told}"))?;
    let end = told[at..].find([' ', '"', '\\']).map_or(told.len(), |end| at + end);
    Ok(told[at..end].to_owned())
}

fn origin(url: &str) -> String {
    url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/")
}

impl Browser {
    pub fn of(login: &str) -> Self {
        Self { login: login.to_owned(), ..Self::default() }
    }

    /// Opens a page of the gateway.
    pub async fn open(&mut self, url: &str) -> Outcome<Reply> {
        let reply = self.http.get(url, &[("cookie", &self.cookie)]).await?;
        self.keep(&reply);
        Ok(reply)
    }

    fn keep(&mut self, reply: &Reply) {
        if let Some((cookie, _)) = reply.header("set-cookie").split_once(';') {
            self.cookie = cookie.to_owned();
        }
    }

    /// Opens a link and reads its form.
    pub async fn form(&mut self, url: &str) -> Outcome<Form> {
        let reply = self.open(url).await?;
        if reply.status != 200 {
            return Err(format!("{}: {}", reply.status, reply.text()).into());
        }
        let text = reply.text();
        let value = |name: &str| between(&text, &format!("name=\"{name}\" value=\""), "\"").to_owned();
        Ok(Form { ticket: value("ticket"), seal: value("seal") })
    }

    /// Says yes with a credential.
    pub async fn say_yes(&mut self, url: &str, form: &Form, credential: &str) -> Outcome<Reply> {
        self.send(url, form, credential, &[("origin", &origin(url))]).await
    }

    /// The same, from wherever the headers say.
    pub async fn send(
        &mut self,
        url: &str,
        form: &Form,
        credential: &str,
        headers: &[(&str, &str)],
    ) -> Outcome<Reply> {
        let body = format!(
            "ticket={}&seal={}&credential={}&answer=connect",
            encoded(&form.ticket),
            encoded(&form.seal),
            encoded(credential)
        );
        let cookie = self.cookie.clone();
        let mut all = vec![("cookie", &*cookie), ("content-type", "application/x-www-form-urlencoded")];
        all.extend_from_slice(headers);
        let reply = self.http.post(url.split('?').next().unwrap_or_default(), &all, body).await?;
        self.keep(&reply);
        Ok(reply)
    }

    /// Goes to the authorization server, which sends back where to go next.
    pub async fn authorize(&self, url: &str) -> Outcome<String> {
        let reply = self.http.get(url, &[("x-login", &self.login)]).await?;
        if reply.status == 302 { Ok(reply.header("location").to_owned()) } else { Err(reply.text().into()) }
    }

    /// All of it: the last page of the gateway.
    pub async fn connect(&mut self, url: &str, credential: &str) -> Outcome<Reply> {
        let form = self.form(url).await?;
        let sent = self.say_yes(url, &form, credential).await?;
        if sent.status != 303 {
            return Ok(sent);
        }
        let back = self.authorize(sent.header("location")).await?;
        self.open(&back).await
    }
}
