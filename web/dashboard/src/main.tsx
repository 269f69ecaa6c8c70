/** The page that the daemon serves. */

import { mountDashboard } from "./mount";

const place = document.getElementById("dashboard");
if (place) mountDashboard(place, { page: true });
