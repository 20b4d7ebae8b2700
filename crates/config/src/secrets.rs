//! Where secrets are kept that are named by reference: Vault or OpenBao, and AWS Secrets Manager.

use std::{collections::BTreeMap, path::PathBuf};

use url::Url;

use super::{
    decode::{choice, section},
    primitives::Bounded,
    values::Reference,
};

section! {
    /// Where the values of `vault:` and `aws:` references come from, and for how long they are used. Every value is fetched
    /// when it is first needed, and anew in the background when two thirds of its time are over.
    SecretsSection {
        /// How long a value is used whose source names no time. What has a lease is never used beyond it.
        cache_s: Bounded<1, 86_400> = Bounded(300);
        /// How much longer a value without a lease is used while its source does not answer, by reference without `#FIELD`;
        /// `*` stands for all others. Default: not at all, calls that need it are refused.
        outage_s: BTreeMap<String, Bounded<0, 604_800>>;
        /// What is done with an answer in which a secret comes back that a server was given.
        leaks: Leaks = Leaks::Mask;
        /// How long a secret is looked for in answers after it was last handed out, so that old values are for some time.
        watched_s: Bounded<60, 2_592_000> = Bounded(86_400);
        /// HashiCorp Vault or OpenBao, for `vault:MOUNT/PATH#FIELD`.
        vault: Option<VaultSection>;
        /// AWS Secrets Manager, for `aws:NAME-or-ARN#FIELD`. `aws: {}` finds region and credentials as the SDKs do.
        aws: Option<AwsSection>;
    }
}

choice! {
    /// What is done with an answer in which a secret comes back.
    Leaks {
        /// The secret is replaced.
        Mask = "mask",
        /// The answer is refused.
        Refuse = "refuse",
    }
}

section! {
    /// A Vault or OpenBao.
    VaultSection {
        /// Addresses of its nodes, `https`; where one does not answer, the next one is asked.
        addresses: Vec<Url>;
        /// The namespace of everything that is asked.
        namespace: Option<String>;
        /// How the gateway proves who it is.
        login: VaultLogin;
        /// PEM file of authorities that are trusted besides the platform's.
        ca: Option<PathBuf>;
        /// PEM file with the certificate that the gateway shows, for mutual TLS and `method: certificate`.
        client_certificate: Option<PathBuf>;
        /// PEM file with its private key.
        client_key: Option<PathBuf>;
        /// Version of the KV engine, where the token may not ask (`sys/internal/ui/mounts`).
        kv_version: Bounded<1, 2> = Bounded(2);
        /// For one request, name lookup and TLS included.
        timeout_ms: Bounded<100, 60_000> = Bounded(5_000);
        /// Speaks plain HTTP to addresses that are not on this machine: whoever is on the way reads every secret.
        danger_plain_http: bool = false;
    }
}

section! {
    /// How the gateway logs in to Vault. Secrets stand here as `env:NAME` or `file:PATH`, and are read at each login.
    VaultLogin {
        /// The way.
        method: VaultMethod;
        /// Where the method is mounted, without `auth/`. Default: where Vault mounts it by itself.
        mount: Option<String>;
        /// The token, with `method: token`.
        token: Option<Reference>;
        /// `token` or `secret_id` is a wrapping token, which is exchanged once for what it wraps.
        wrapped: bool = false;
        /// The role, with `kubernetes`, `jwt` and `aws`.
        role: Option<String>;
        /// The role id, with `approle`.
        role_id: Option<Reference>;
        /// The secret id, with `approle`, unless the role wants none.
        secret_id: Option<Reference>;
        /// The token of the workload, with `kubernetes` and `jwt`. Default with `kubernetes`: that of the pod.
        jwt: Option<Reference>;
        /// Name of the trusted certificate, with `certificate`. Default: any that fits.
        name: Option<String>;
        /// The user, with `userpass`.
        user: Option<String>;
        /// The password, with `userpass`.
        password: Option<Reference>;
        /// Value of `X-Vault-AWS-IAM-Server-ID`, with `aws`.
        server_id: Option<String>;
    }
}

choice! {
    /// A way to log in to Vault.
    VaultMethod {
        /// As a machine, with role id and secret id.
        Approle = "approle",
        /// As an identity of AWS; region and credentials are those under `secrets.aws`, or found as the SDKs do.
        Aws = "aws",
        /// With the client certificate of the connection.
        Certificate = "certificate",
        /// With a JWT.
        Jwt = "jwt",
        /// With the token of the pod's service account.
        Kubernetes = "kubernetes",
        /// With a token.
        Token = "token",
        /// With a user's name and password.
        Userpass = "userpass",
    }
}

section! {
    /// AWS Secrets Manager, and who the gateway is there. Credentials are found as the SDKs do: environment, shared files,
    /// web identity, the container's endpoint, the machine's metadata service.
    AwsSection {
        /// The region. Default: that of the environment or the profile; an ARN names its own.
        region: Option<String>;
        /// The profile of the shared files.
        profile: Option<String>;
        /// ARN of a role that is taken on with those credentials.
        role_arn: Option<String>;
        /// What the role's trust policy may ask for.
        external_id: Option<String>;
        /// Name under which the gateway appears in AWS's own log.
        session_name: String = String::from("portcullis");
        /// Address of the services in the place of the public ones, such as that of a VPC endpoint.
        endpoint: Option<Url>;
        /// PEM file of authorities that are trusted besides the platform's.
        ca: Option<PathBuf>;
        /// For one request, name lookup and TLS included.
        timeout_ms: Bounded<100, 60_000> = Bounded(5_000);
    }
}
