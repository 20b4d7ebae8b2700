"""What an operator does at AWS: secrets, a user, and a policy that lets it read some of them. Commands come as lines of
JSON, answers go as lines of JSON."""

import json
import sys

import boto3

REGION = "eu-central-1"
SECRETS = 104


def client(name, endpoint, key):
    return boto3.client(
        name, region_name=REGION, endpoint_url=endpoint, aws_access_key_id=key[0], aws_secret_access_key=key[1]
    )


def begin(endpoint, names):
    first = ("setup", "setup")
    secrets, people = client("secretsmanager", endpoint, first), client("iam", endpoint, first)
    people.create_user(UserName="gateway")
    allowed = ["secretsmanager:GetSecretValue", "secretsmanager:ListSecrets"]
    statements = [
        {"Effect": "Allow", "Action": allowed, "Resource": "*"},
        {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"},
    ]
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    people.put_user_policy(UserName="gateway", PolicyName="read", PolicyDocument=policy)
    people.create_user(UserName="stranger")
    keys = {}
    for user in ("gateway", "stranger"):
        made = people.create_access_key(UserName=user)["AccessKey"]
        keys[user] = [made["AccessKeyId"], made["SecretAccessKey"]]
    people.create_user(UserName="keeper")
    everything = [{"Effect": "Allow", "Action": "*", "Resource": "*"}]
    policy = json.dumps({"Version": "2012-10-17", "Statement": everything})
    people.put_user_policy(UserName="keeper", PolicyName="all", PolicyDocument=policy)
    made = people.create_access_key(UserName="keeper")["AccessKey"]
    keys["keeper"] = [made["AccessKeyId"], made["SecretAccessKey"]]
    # A role that the gateway takes on, or a pod by its web identity.
    trust = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    people.create_role(RoleName="reader", AssumeRolePolicyDocument=trust)
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements[:1]})
    people.put_role_policy(RoleName="reader", PolicyName="read", PolicyDocument=policy)
    for name, value in names.items():
        secrets.create_secret(Name=name, SecretString=value)
    for number in range(SECRETS - len(names)):
        secrets.create_secret(Name=f"more/{number}", SecretString="x")
    return keys


# The calls of `begin`: from the next one on the service checks signatures and permissions.
CALLS = 11 + SECRETS

if __name__ == "__main__":
    endpoint, keys = sys.argv[1], None
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["do"] == "begin":
            keys = begin(endpoint, asked["names"])
            answer = keys
        else:
            secrets = client("secretsmanager", endpoint, keys["keeper"])
            secrets.put_secret_value(SecretId=asked["name"], SecretString=asked["value"])
            answer = "done"
        print(json.dumps(answer), flush=True)
