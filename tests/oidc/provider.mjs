// An identity provider for tests: oidc-provider with a form that takes any password. A person who signs in is in the group that
// their name says, as in `ann.admins`. Writes its address on the first line of its output.
import { createServer } from "node:http";

const { default: Provider } = await import(process.env.TEST_OIDC_PROVIDER);

let answer;
const server = createServer((request, response) => answer(request, response));
server.listen(0, "127.0.0.1", () => {
    const issuer = `http://127.0.0.1:${server.address().port}`;
    const provider = new Provider(issuer, {
        clients: [
            {
                client_id: "punctual",
                client_secret: process.env.CLIENT_SECRET,
                redirect_uris: [process.env.REDIRECT_URL],
            },
        ],
        claims: { email: ["email", "email_verified"], profile: ["preferred_username"], groups: ["groups"] },
        // With it, groups and address are told at the userinfo endpoint only, as the standard has it.
        conformIdTokenClaims: process.env.IN_ID_TOKEN !== "yes",
        cookies: { keys: ["of these tests"] },
        findAccount: (_, id) => ({
            accountId: id,
            claims: () => ({
                sub: id,
                email: `${id.split(".")[0]}@shop.example`,
                email_verified: true,
                groups: id.split(".").slice(1),
            }),
        }),
        // No one is asked whether the agent may know their groups.
        loadExistingGrant: async ({ oidc }) => {
            const { clientId } = oidc.client;
            const grant = new oidc.provider.Grant({ clientId, accountId: oidc.session.accountId });
            grant.addOIDCScope("openid email profile groups");
            await grant.save();
            return grant;
        },
    });
    answer = provider.callback();
    console.log(`Listening on ${issuer}`);
});
