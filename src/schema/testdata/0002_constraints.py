from django.db import migrations, models
from django.db.models import F, Q


class Migration(migrations.Migration):
    dependencies = [("parcels", "0001_initial")]

    operations = [
        migrations.AddConstraint(
            model_name="parcel",
            constraint=models.CheckConstraint(
                check=Q(hectares__gt=0) & ~Q(code=""),
                name="parcel_is_real",
            ),
        ),
        migrations.AlterUniqueTogether(
            name="parcel",
            unique_together={("farm", "code")},
        ),
        migrations.AddIndex(
            model_name="parcel",
            index=models.Index(fields=["farm", "-hectares"], name="parcel_by_size"),
        ),
        migrations.AlterField("parcel", "code", models.SlugField(max_length=50, db_index=False)),
    ]
