// An OpenID Connect provider for tests: `oidc-provider`, an OpenID certified implementation, with its own pages for login
// and consent, which take any password. What it says of people is in a file, read again for each answer.
//
//     node provider.mjs ISSUER PEOPLE.json KEY.pem CERTIFICATE.pem REDIRECT_URI...
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import Provider from "oidc-provider";

const [issuer, people, key, certificate, ...redirects] = process.argv.slice(2);

const provider = new Provider(issuer, {
  clients: [
    {
      client_id: "hub",
      client_secret: "s3cret-of-the-hub",
      redirect_uris: redirects,
      grant_types: ["authorization_code", "refresh_token"],
    },
  ],
  claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["preferred_username", "groups"] },
  findAccount(_ctx, id) {
    const said = JSON.parse(readFileSync(people, "utf8"))[id];
    return said && { accountId: id, claims: () => ({ sub: id, ...said }) };
  },
  issueRefreshToken: () => true,
  rotateRefreshToken: true,
  // Shorter than the hub waits before it asks again, so that it must renew them.
  ttl: { AccessToken: 5, Interaction: 600, Session: 600, Grant: 3600, IdToken: 3600, RefreshToken: 3600 },
});

const server = createServer({ key: readFileSync(key), cert: readFileSync(certificate) }, provider.callback());
server.listen(Number(new URL(issuer).port));
