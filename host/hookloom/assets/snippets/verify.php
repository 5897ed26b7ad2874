<?php
// Verifies webhooks that Hookloom signs, as https://www.standardwebhooks.com describes. Needs PHP 8 or newer, and no package.

const TOLERANCE_S = 300;

// Returns true if the request was signed with the secret ("whsec_…") within five minutes.
// $headers: names in lower case: array_change_key_case(getallheaders()). $body: the raw bytes: file_get_contents('php://input').
function is_signed(string $secret, array $headers, string $body): bool
{
    $id = $headers['webhook-id'] ?? '';
    $timestamp = $headers['webhook-timestamp'] ?? '';
    if (!ctype_digit($timestamp) || abs(time() - (int) $timestamp) > TOLERANCE_S) {
        return false;
    }
    $key = base64_decode(preg_replace('/^whsec_/', '', $secret));
    $expected = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$timestamp.$body", $key, true));
    // While the secret is rotated, there are several signatures.
    foreach (explode(' ', $headers['webhook-signature'] ?? '') as $signature) {
        if (hash_equals($expected, $signature)) {
            return true;
        }
    }
    return false;
}
