//! The identity stand-in, as the identity crate of Azure's SDK knows the services it stands for.
//!
//! App Service's protocol is found through the environment of a process; the sidecar's tests begin one.

#![allow(clippy::unwrap_used, reason = "the set-up is part of each test")]

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use azure_core::cloud::CustomConfiguration;
use azure_core::credentials::TokenCredential;
use azure_core::http::{AsyncRawResponse, ClientOptions, HttpClient, Request, Transport, Url};
use azure_identity::{
    ClientAssertionCredentialOptions, ManagedIdentityCredential, ManagedIdentityCredentialOptions,
    UserAssignedId, WorkloadIdentityCredential, WorkloadIdentityCredentialOptions,
};
use postern_control::testing::identity::{
    CLIENT_ID, Identity, IdentityFaults, IdentityOptions, TENANT,
};
use postern_control::testing::key_vault::RESOURCE;

const SCOPE: &str = "https://vault.azure.net/.default";

/// Sends what is for the address of IMDS, which no test can listen on, to its stand-in.
struct ToStandIn {
    imds: Url,
    client: reqwest::Client,
}

impl fmt::Debug for ToStandIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ToStandIn")
    }
}

#[async_trait]
impl HttpClient for ToStandIn {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let mut request = request.clone();
        assert_eq!(request.url().host_str(), Some("169.254.169.254"));
        request.url_mut().set_host(self.imds.host_str()).unwrap();
        request.url_mut().set_port(self.imds.port()).unwrap();
        self.client.execute_request(&request).await
    }
}

fn managed(identity: &Identity, client_id: Option<&str>) -> Arc<ManagedIdentityCredential> {
    let transport = ToStandIn {
        imds: identity.imds().parse().unwrap(),
        client: reqwest::Client::new(),
    };
    let options = ManagedIdentityCredentialOptions {
        user_assigned_id: client_id.map(|id| UserAssignedId::ClientId(id.to_owned())),
        client_options: ClientOptions {
            transport: Some(Transport::new(Arc::new(transport))),
            ..ClientOptions::default()
        },
    };
    ManagedIdentityCredential::new(Some(options)).unwrap()
}

#[tokio::test]
async fn a_virtual_machine_gets_a_token_that_a_vault_accepts() {
    let identity = Identity::start().await.unwrap();
    let token = managed(&identity, Some(CLIENT_ID))
        .get_token(&[SCOPE], None)
        .await
        .unwrap();
    assert_eq!(
        identity.tokens().check(token.token.secret(), RESOURCE),
        Ok(())
    );
    let left = token.expires_on.unix_timestamp() - identity.clock().now();
    assert!((24 * 3600 - 60..=24 * 3600).contains(&left), "{left}");
}

#[tokio::test]
async fn of_several_identities_one_must_be_named_that_is_there() {
    let options = IdentityOptions {
        client_ids: vec!["one".to_owned(), "two".to_owned()],
        ..IdentityOptions::default()
    };
    let identity = Identity::start_with(options).await.unwrap();
    managed(&identity, Some("two"))
        .get_token(&[SCOPE], None)
        .await
        .unwrap();
    for client_id in [None, Some("three")] {
        let refused = managed(&identity, client_id)
            .get_token(&[SCOPE], None)
            .await
            .unwrap_err();
        let text = refused.to_string();
        assert!(text.contains("has not been assigned"), "{text}");
    }
    assert_eq!(identity.requests(), 3);
}

#[tokio::test]
async fn a_pod_gets_a_token_for_its_assertion() {
    let identity = Identity::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let get = async |assertion: &str| {
        let file = folder.path().join(assertion);
        std::fs::write(&file, assertion).unwrap();
        let ca = reqwest::Certificate::from_pem(identity.ca_pem().as_bytes()).unwrap();
        let client = reqwest::Client::builder()
            .tls_certs_only([ca])
            .build()
            .unwrap();
        let mut cloud = CustomConfiguration::default();
        cloud.authority_host = identity.workload_environment()[0].1.clone();
        let client_options = ClientOptions {
            transport: Some(Transport::new(Arc::new(client))),
            cloud: Some(Arc::new(cloud.into())),
            ..ClientOptions::default()
        };
        let options = WorkloadIdentityCredentialOptions {
            credential_options: ClientAssertionCredentialOptions { client_options },
            client_id: Some(CLIENT_ID.to_owned()),
            tenant_id: Some(TENANT.to_owned()),
            token_file_path: Some(file),
        };
        let credential = WorkloadIdentityCredential::new(Some(options)).unwrap();
        credential.get_token(&[SCOPE], None).await
    };
    let token = get(identity.assertion()).await.unwrap();
    assert_eq!(
        identity.tokens().check(token.token.secret(), RESOURCE),
        Ok(())
    );
    let refused = get("another").await.unwrap_err().to_string();
    assert!(refused.contains("AADSTS700213"), "{refused}");
}

#[tokio::test]
async fn a_caller_without_the_right_header_gets_nothing() {
    let identity = Identity::start().await.unwrap();
    let client = reqwest::Client::new();
    let query = format!("?api-version=2019-08-01&resource={RESOURCE}");
    let endpoint = identity.environment().remove(0).1;
    let status = async |url: String, name: &str, value: &str| {
        let request = client.get(url).header(name, value);
        request.send().await.unwrap().status().as_u16()
    };
    let header = identity.environment().remove(1).1;
    for (name, value, expected) in [
        ("x-identity-header", header.as_str(), 200),
        ("x-identity-header", "guessed", 401),
        ("metadata", "true", 401),
    ] {
        assert_eq!(
            status(format!("{endpoint}{query}"), name, value).await,
            expected
        );
    }
    let imds = identity.imds();
    assert_eq!(
        status(format!("{imds}{query}"), "metadata", "true").await,
        200
    );
    assert_eq!(status(format!("{imds}{query}"), "accept", "*/*").await, 400);
    assert_eq!(status(imds, "metadata", "true").await, 400);
}

#[tokio::test]
async fn it_is_unavailable_as_often_as_said() {
    let identity = Identity::start().await.unwrap();
    let url = format!(
        "{}?api-version=2018-02-01&resource={RESOURCE}",
        identity.imds()
    );
    let client = reqwest::Client::new();
    for error in [404, 410, 429, 500] {
        identity.set_faults(IdentityFaults {
            error: Some(error),
            times: Some(1),
            ..IdentityFaults::default()
        });
        for expected in [error, 200] {
            let answer = client
                .get(&url)
                .header("metadata", "true")
                .send()
                .await
                .unwrap();
            assert_eq!(answer.status(), expected);
        }
    }
}
