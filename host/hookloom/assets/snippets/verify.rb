# Verifies webhooks that Hookloom signs, as https://www.standardwebhooks.com describes. Needs Ruby 3.0 or newer, and no gem.

require "openssl"

TOLERANCE_S = 300

# Returns true if the request was signed with the secret ("whsec_…") within five minutes.
# headers: names in lower case (in Rails, `request.headers` finds them). body: the raw bytes (in Rails, `request.raw_post`).
def signed?(secret, headers, body)
  timestamp = headers["webhook-timestamp"].to_s.b
  return false unless timestamp.match?(/\A\d+\z/) && (Time.now.to_i - timestamp.to_i).abs <= TOLERANCE_S

  key = secret.delete_prefix("whsec_").unpack1("m")
  content = "#{headers["webhook-id"]}.".b + timestamp + ".".b + body.b
  expected = "v1,#{[OpenSSL::HMAC.digest("SHA256", key, content)].pack("m0")}"
  # While the secret is rotated, there are several signatures.
  headers["webhook-signature"].to_s.b.split(" ").any? do |signature|
    OpenSSL.secure_compare(signature, expected)
  end
end
