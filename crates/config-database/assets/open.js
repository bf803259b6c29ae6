// Sends the token from behind the `#` of the address, where no server, log or `Referer` sees it, and takes it out of the
// address first.
"use strict";

{
  const given = new URLSearchParams(location.hash.slice(1));
  history.replaceState(null, "", location.pathname);
  const form = document.getElementById("open");
  form.elements.token.value = given.get("token") ?? "";
  form.elements.feature.value = given.get("feature") ?? "";
  form.submit();
}
