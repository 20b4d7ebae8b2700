"""What an operator does at AWS KMS: a user, a policy that lets it use one key, the key and an alias. Prints the user's keys."""

import json
import sys

import boto3

if __name__ == "__main__":

    def client(name):
        place = {"region_name": "eu-central-1", "endpoint_url": sys.argv[1]}
        return boto3.client(name, aws_access_key_id="setup", aws_secret_access_key="setup", **place)

    people, keys = client("iam"), client("kms")
    people.create_user(UserName="gateway")
    made = people.create_access_key(UserName="gateway")["AccessKey"]
    key = keys.create_key(Description="kek")["KeyMetadata"]
    keys.create_alias(AliasName="alias/portcullis", TargetKeyId=key["KeyId"])
    allowed = ["kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey"]
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": allowed, "Resource": "*"}]}
    people.put_user_policy(UserName="gateway", PolicyName="use", PolicyDocument=json.dumps(policy))
    print(json.dumps({"id": made["AccessKeyId"], "secret": made["SecretAccessKey"], "key": key["KeyId"]}))
